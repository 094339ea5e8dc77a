"""Fleet files: the demo's own, overrides, and every way to get one wrong."""

from pathlib import Path

import pytest

from prfaas.config.load import load
from prfaas.core.errors import ConfigError

DEMO = Path(__file__).parents[2] / "configs" / "demo.yaml"

GOOD = """
model: {name: m, path: weights}
security: {mode: plain}
clusters:
  - name: west
    kind: pd
    instances:
      - {name: d0, role: decode}
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "fleet.yaml"
    path.write_text(text)
    return path


def fails(tmp_path: Path, text: str, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, text), overrides)
    return str(caught.value)


def test_demo_file_is_two_datacenters_with_a_shaped_link() -> None:
    config = load(DEMO)
    assert {c.name: c.kind for c in config.clusters} == {"east": "prfaas", "west": "pd"}
    link = config.link("west", "east")
    assert link is not None
    assert (link.gbit_s, link.rtt_ms, link.dial_through) == (1.0, 20.0, "127.0.0.1:7171")
    assert config.router_cluster == "west"


def test_overrides_reach_sections_and_list_items() -> None:
    config = load(DEMO, ["router.threshold_tokens=2048", "links.0.gbit_s=0.25", "clusters.1.instances.1.name=other"])
    assert config.router.threshold_tokens == 2048
    assert config.links[0].gbit_s == 0.25
    assert config.clusters[1].instances[1].name == "other"


def test_relative_model_path_starts_at_the_file(tmp_path: Path) -> None:
    assert load(write(tmp_path, GOOD)).model.path == tmp_path / "weights"


def test_relative_disk_paths_start_at_the_file_in_every_engine_section(tmp_path: Path) -> None:
    own = "engine: {prefix_cache: {disk: {path: own, limit_gib: 2}}}"
    text = GOOD.replace("role: decode}", f"role: decode, {own}}}\n      - {{name: d1, role: decode}}")
    config = load(write(tmp_path, text + "engine: {prefix_cache: {disk: {path: /all}}}\n"))
    disk = config.engine.prefix_cache.disk
    assert disk is not None
    assert disk.path == Path("/all")
    with_own, without = config.clusters[0].instances
    assert with_own.engine is not None
    assert with_own.engine.prefix_cache.disk == disk.model_copy(update={"path": tmp_path / "own", "limit_gib": 2.0})
    assert without.engine is None


def test_relative_certificate_paths_start_at_the_file(tmp_path: Path) -> None:
    files = "ca: c/ca.pem, cert: 'c/{name}.pem', key: /k/key.pem"
    security = load(write(tmp_path, GOOD.replace("mode: plain", files))).security
    assert security is not None
    assert (security.mode, security.ca) == ("mtls", tmp_path / "c" / "ca.pem")
    assert (security.cert, security.key) == (tmp_path / "c" / "{name}.pem", Path("/k/key.pem"))


def test_all_faults_are_reported_at_once_with_their_lines(tmp_path: Path) -> None:
    message = fails(
        tmp_path,
        """model: {name: m, path: p, dtyp: x}
router: {http: nowhere}
clusters:
  - {name: west, kind: pd}
  - {name: west, kind: pd}
links:
  - {between: [west, north], gbit_s: 1}
""",
        "router.threshold_tokens=-3",
    )
    path = tmp_path / "fleet.yaml"
    assert f"{path}:1: model.dtyp: unknown key" in message
    assert f"{path}:2: router.http: 'nowhere' is not HOST:PORT" in message
    assert f"{path}:5: clusters.1.name: two clusters are named 'west'" in message
    assert f"{path}:7: links.0.between.1: no cluster is named 'north'" in message
    assert "--set router.threshold_tokens: Input should be greater than or equal to 0" in message


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("kind: pd", "kind: prfaas"), "nothing could decode"),
        (("role: decode}", "role: decode}\n      - {name: d0, role: prefill}"), "two instances are named 'd0'"),
        (("model:", "model: {name: a, path: b}\nmodel:"), "the key 'model' stands twice"),
        (("clusters:", "engine: {step_tokens: 8, max_running_requests: 8}\nclusters:"), "leaves no room for prefill"),
        (("clusters:", "router: {http: '127.0.0.1:9', control: '127.0.0.1:9'}\nclusters:"), "already taken by"),
        (("kind: pd", "kind: decode"), "clusters.0.kind"),
        (("security: {mode: plain}", ""), "security: this section is required; make certificates with `prfaas certs`"),
        (("mode: plain", "mode: mtls, ca: ca.pem, cert: c.pem"), "security.key: mode mtls needs this PEM file"),
        (("mode: plain", "mode: tls"), "security.mode"),
        (
            ("plain}", "mtls, ca: a, cert: b, key: c, allowed_names: []}"),
            "security.allowed_names: an empty list refuses",
        ),
        (("clusters:", "transport: {staging_bytes: 8192}\nclusters:"), "transport.staging_bytes: 8192 has no room for"),
        (("clusters:", "transport: {credit_bytes: 8192}\nclusters:"), "transport.credit_bytes: 8192 has no room for"),
        (
            ("clusters:", "transport: {min_streams: 9, max_streams: 8}\nclusters:"),
            "transport.max_streams: 8 is less than",
        ),
        (("clusters:", "transport: {max_connections: 3}\nclusters:"), "transport.max_connections: 3 is less than"),
        (("clusters:", "transport: {codecs: [raw, exakt]}\nclusters:"), "transport.codecs.1"),
        (("clusters:", "router: {first_token_deadline_s: .inf}\nclusters:"), "router.first_token_deadline_s"),
    ],
)
def test_each_fault_is_named(tmp_path: Path, change: tuple[str, str], said: str) -> None:
    assert said in fails(tmp_path, GOOD.replace(*change))


def test_a_fault_inside_an_overridden_value_is_the_command_lines(tmp_path: Path) -> None:
    said = fails(tmp_path, GOOD, "transport.codecs=[raw, exakt]")
    assert said.startswith("--set transport.codecs.1: Input should be 'raw'")


def test_link_needs_two_ends_and_one_way(tmp_path: Path) -> None:
    same = GOOD + "links: [{between: [west, west], gbit_s: 1}]\n"
    assert "not 'west' with itself" in fails(tmp_path, same)
    east = GOOD + "  - {name: east, kind: prfaas}\n"
    twice = east + "links: [{between: [west, east], gbit_s: 1}, {between: [east, west], gbit_s: 2}]\n"
    assert "a second link between east and west" in fails(tmp_path, twice)
    both = east + "links: [{between: [west, east], gbit_s: 1, proxy: 'p:1', relay: {listen: 'h:2'}}]\n"
    assert "either a proxy or a relay" in fails(tmp_path, both)


@pytest.mark.parametrize("override", ["threshold", "=3", "router..x=1", "clusters.7.name=x", "model.name.x=1"])
def test_bad_overrides_are_refused(override: str) -> None:
    with pytest.raises(ConfigError, match="--set"):
        load(DEMO, [override])


def test_files_that_are_no_fleet_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        load(tmp_path / "absent.yaml")
    assert "not valid YAML" in fails(tmp_path, "a: [")
    assert "not a fleet file" in fails(tmp_path, "- 1")
    assert "this key is required" in fails(tmp_path, "model: {name: m}\n")
    with pytest.raises(ConfigError, match="Is a directory; give a fleet file"):
        load(tmp_path)


def test_a_deployment_file_is_told_in_one_line(tmp_path: Path) -> None:
    message = fails(tmp_path, "name: d\nworkload: {}\nclusters: []\n")
    assert message.endswith("has name:, workload: and lacks model:; give a fleet file")
    assert "\n" not in message


def test_workers_take_ports_of_their_own(tmp_path: Path) -> None:
    router = "router: {http: '127.0.0.1:7071', control: '127.0.0.1:7070', workers: 2}\n"
    assert "router.control: 127.0.0.1:7071 is already taken by router.http" in fails(tmp_path, GOOD + router)
    load(write(tmp_path, GOOD + router), ["router.workers=1"])
    two = ["router.workers=2", "router.http=127.0.0.1:8000"]
    assert "router.control: 2 workers need as many ports" in fails(
        tmp_path, GOOD + router, *two, "router.control=127.0.0.1:65535"
    )
    assert load(write(tmp_path, GOOD + router), two).router.worker_http == "127.0.0.1:0"
