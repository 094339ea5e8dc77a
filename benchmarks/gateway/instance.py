"""`python -m benchmarks.gateway.instance`: a process that is a decode instance to a router, and has no engine."""

import asyncio
import sys
from pathlib import Path
from typing import Annotated, Any

import grpc
import typer
import uvloop
from tokenizers import Tokenizer

from benchmarks.gateway.answers import Answers
from prfaas.config.load import load
from prfaas.config.sections import FleetConfig
from prfaas.control.dial import Dialer
from prfaas.control.serve_grpc import add_port, grpc_server
from prfaas.control.v1 import fleet_pb2 as pb
from prfaas.control.v1.fleet_pb2_grpc import FleetStub, InstanceServicer, add_InstanceServicer_to_server
from prfaas.core.ids import new_epoch
from prfaas.instance.attend import AttendContext, AttendService, Commands

TEXT = "The router sends what it cannot prefill here to another place, and tells the reader as soon as a token comes. "


class _Servicer(InstanceServicer):
    def __init__(self, attend: AttendService) -> None:
        self._attend = attend

    async def Attend(self, commands: Commands, context: AttendContext) -> None:  # type: ignore[override] # noqa: N802
        await self._attend.serve(commands, context, takes=lambda: True)

    async def Announce(self, request: pb.AnnounceRequest, context: object) -> pb.AnnounceReply:  # noqa: ARG002, N802
        return pb.AnnounceReply()

    async def Cancel(self, request: pb.CancelRequest, context: object) -> pb.CancelReply:  # noqa: ARG002, N802
        return pb.CancelReply(found=self._attend.cancel(request.request_id))


def main(
    config: Annotated[Path, typer.Option(help="The router's fleet file; its security must be plain.")],
    name: str = "decode",
    cluster: Annotated[str, typer.Option(help="Empty: the first one of the file.")] = "",
    spacing_ms: Annotated[float, typer.Option(min=0.0, help="Between the tokens of a request; 0: all at once.")] = 0.0,
) -> None:
    """Serves until it is killed; says "ready" when the router knows it."""
    fleet = load(config)
    where = cluster or fleet.clusters[0].name
    tokenizer: Tokenizer = Tokenizer.from_file(str(fleet.model.path / "tokenizer.json"))
    answers = Answers(name, where, tokenizer.encode(TEXT).ids, spacing_ms / 1e3)
    uvloop.run(_serve(fleet, name, where, answers))


async def _serve(fleet: FleetConfig, name: str, cluster: str, answers: Answers) -> None:
    server = grpc_server(None)
    servicer = _Servicer(AttendService(name, answers))  # type: ignore[abstract] # nobody calls what it lacks
    add_InstanceServicer_to_server(servicer, server)
    address = f"127.0.0.1:{add_port(server, '127.0.0.1:0', None)}"
    await server.start()
    info = pb.InstanceInfo(
        instance_id=name,
        cluster=cluster,
        role=pb.ROLE_DECODE,
        epoch=new_epoch(),
        control_address=address,
        model_name=fleet.model.name,
        model_fingerprint="none",
    )
    channel = Dialer(fleet, cluster).channel(fleet.router.control_dial, fleet.router_cluster)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(answers.tick())
        tasks.create_task(_stay_known(FleetStub(channel), info))


async def _stay_known(router: Any, info: pb.InstanceInfo) -> None:
    load = pb.Load(pages_total=1 << 20)
    known = False
    while True:
        try:
            if known:
                beat = pb.HeartbeatRequest(instance_id=info.instance_id, epoch=info.epoch, load=load)
                known = (await router.Heartbeat(beat)).known
            else:
                await router.Register(pb.RegisterRequest(instance=info, load=load))
                known = True
                print("ready", flush=True)
        except grpc.aio.AioRpcError as error:
            print(f"the router does not answer yet: {error.details()}", file=sys.stderr)
        await asyncio.sleep(1.0)


if __name__ == "__main__":
    typer.run(main)
