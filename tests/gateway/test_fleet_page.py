"""The live page: one document that loads nothing and runs nothing but its own, and shows what the router says."""

import asyncio
import re
from base64 import b64encode
from hashlib import sha256
from pathlib import Path

import pytest

from prfaas.config.sections import FleetConfig
from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.gateway.page.compose import Page
from tests.gateway.browser import CHROMIUM, running_browser
from tests.gateway.running_router import RunningRouter, fleet_config, router_of

PHONE = {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}
STATE = "document.getElementById('connection').dataset.state"
BAD_NAME = "<img src=x onerror=document.title='run'>"


def inline(page: str, tag: str) -> str:
    [content] = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
    return str(content)


async def test_only_its_own_style_and_script_may_run(router: RunningRouter) -> None:
    answer = await router.http.get("/ui")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    rules = dict(rule.split(" ", 1) for rule in answer.headers["content-security-policy"].split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["connect-src"] == "'self'"
    assert rules["frame-ancestors"] == rules["base-uri"] == rules["form-action"] == "'none'"
    for tag in ("style", "script"):
        digest = b64encode(sha256(inline(answer.text, tag).encode()).digest()).decode()
        assert rules[f"{tag}-src"] == f"'sha256-{digest}'"


def test_it_needs_nothing_from_elsewhere() -> None:
    page = Page.load().body.decode()
    addresses = set(re.findall(r"https?://[^\s'\"]+", page))
    assert addresses == {"http://www.w3.org/2000/svg"}  # a name, never asked for
    assert not re.search(r"<(script|link|img|iframe)[^>]+src=", page)
    assert not re.search(r"\sstyle=", page)  # the policy forbids those


def test_text_never_becomes_markup() -> None:
    script = inline(Page.load().body.decode(), "script")
    for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function(", "DOMParser"):
        assert way not in script


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed here")
async def test_a_browser_shows_what_the_router_says(model: Path, tmp_path: Path) -> None:
    config = fleet_config(model).model_dump()
    config["model"]["name"] = BAD_NAME
    async with router_of(FleetConfig.model_validate(config)) as router, running_browser(tmp_path) as browser:
        await router.add("decode-1", load=pb.Load(pages_total=100, pages_used=40, running_requests=3))
        body = {"model": BAD_NAME, "prompt": "hello world", "max_tokens": 4}
        assert (await router.http.post("/v1/completions", json=body)).status_code == 200
        async with asyncio.timeout(40):
            await browser.open(f"http://{router.server.http_address}/ui")
            await browser.until("document.querySelector('[data-decision]') && " + STATE + " === 'live'")
            page = await browser.value("document.documentElement.outerHTML")
            await browser.call("Emulation.setDeviceMetricsOverride", **PHONE)
            assert await browser.value("document.documentElement.scrollWidth") == PHONE["width"]
            assert browser.faults == []
            router.watch.close()
            await browser.until(STATE + " === 'lost'")
    assert 'data-name="decode-1"' in page
    assert "40 %" in page  # its pages
    assert 'data-decision="decode"' in page
    assert "&lt;img src=x" in page  # as text
    assert "<img" not in page
    assert "<title>prfaas fleet</title>" in page
