"""`prfaas key`: what it prints lets exactly its owner in."""

import hashlib
import json

import yaml
from typer.testing import CliRunner

from prfaas.cli.main import app
from prfaas.config.sections import AdmissionSection
from prfaas.gateway.tenants import Tenants

RUN = CliRunner(env={"COLUMNS": "40"})


def key(*arguments: str) -> str:
    done = RUN.invoke(app, ["key", *arguments])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_a_key_and_the_lines_that_let_it_in() -> None:
    printed = key("alice")
    secret, _, rest = printed.partition("\n")
    section = AdmissionSection.model_validate(yaml.safe_load(rest[rest.index("admission:") :])["admission"])
    tenants = Tenants(section.api_keys, lambda: 0.0)
    assert (found := tenants.find(secret.encode()))
    assert (found.name, found.own_priority) == ("alice", "interactive")
    assert secret not in rest
    assert tenants.find(key("alice").partition("\n")[0].encode()) is None, "every key is another"


def test_a_key_for_batch_requests() -> None:
    assert "\n      priority: batch\n" in key("nightly", "--batch")


def test_for_programs() -> None:
    made = json.loads(key("alice", "--batch", "--json"))
    digest = hashlib.sha256(made["key"].encode()).hexdigest()
    assert made["api_key"] == {"name": "alice", "sha256": digest, "priority": "batch"}
    assert len(made["key"]) >= 43, "256 bits take so many characters"


def test_a_name_that_a_fleet_file_cannot_have() -> None:
    done = RUN.invoke(app, ["key", "Alice & Bob"])
    assert done.exit_code == 2
    assert "'Alice & Bob' cannot name a key" in " ".join(done.stderr.split())
