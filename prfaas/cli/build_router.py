"""Puts the router together; nothing here, or below it, imports torch."""

import time

from prfaas.cli.build_profiles import build_profiles
from prfaas.cli.emulation import any_emulated, served_shapes
from prfaas.config.sections import FleetConfig
from prfaas.control.credentials import Credentials
from prfaas.control.curve import CurveKeys
from prfaas.control.dial import Dialer
from prfaas.gateway.app import build_app
from prfaas.gateway.calls import InstanceCalls
from prfaas.gateway.directory import Directory
from prfaas.gateway.dispatch import Dispatcher
from prfaas.gateway.fleet_state import FleetState
from prfaas.gateway.fleet_watch import FleetWatch
from prfaas.gateway.gate import Gate
from prfaas.gateway.kv_follower import KvFollower
from prfaas.gateway.registry import Registry
from prfaas.gateway.role_calls import RoleCalls
from prfaas.gateway.server import RouterServer
from prfaas.gateway.timescales import Timescales
from prfaas.gateway.tokenizer import ModelTokenizer
from prfaas.gateway.waiting_room import WaitingRoom
from prfaas.telemetry.metrics import RouterMetrics


def build_router(
    config: FleetConfig, dialer: Dialer, credentials: Credentials | None, metrics: RouterMetrics
) -> RouterServer:
    """Raises ModelError when the model's config or tokenizer cannot be read, ConfigError for a profile."""
    shape = served_shapes(config, any_emulated(config))[config.model.dtype]
    context_tokens = min(shape.max_context_tokens, config.model.max_context_tokens or shape.max_context_tokens)
    registry = Registry(config, metrics, time.monotonic, build_profiles(config, shape))
    directory = Directory(has_states=bool(shape.state_layers))
    calls = InstanceCalls(dialer, metrics)
    room = WaitingRoom(config.admission, metrics.admission, time.monotonic)
    dispatcher = Dispatcher(config, registry, directory, calls, metrics, time.monotonic, room)
    gate = Gate(metrics, room)
    tokenizer = ModelTokenizer.load(config.model.path)
    follower = KvFollower(directory, dialer, metrics, keys=CurveKeys.new() if credentials else None)
    roles = RoleCalls(registry, dialer, metrics.roles)
    timescales = Timescales(
        config, registry, dispatcher.params, dispatcher.traffic, metrics.loops, time.monotonic, roles.change_role
    )
    state = FleetState(
        config, registry, directory, dispatcher, gate, time.monotonic, time.time, lambda: timescales.state
    )
    watch = FleetWatch(state, metrics.watch)
    app = build_app(
        config, tokenizer, context_tokens, registry, directory, dispatcher, gate, metrics, time.monotonic, watch
    )
    return RouterServer(config.router, app, registry, dispatcher, follower, gate, credentials, roles, watch, timescales)
