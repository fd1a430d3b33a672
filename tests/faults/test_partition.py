"""The network between the nodes fails: nobody is told, and no news is lost."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE, create_subprocess_exec
from functools import partial
from pathlib import Path

import pytest
from faults.cluster import claim, make_cluster, plan_nodes, stored_news
from faults.naive import NaiveWriter
from faults.namespaces import network
from faults.results import FULL, record

from feedmesh import subjects
from feedmesh.ingest.log_entry import LogEntry, LogMessage
from feedmesh.ingest.log_publisher import LogPublisher
from feedmesh.streams import NEWS


SUITE = "the leader of three cut off from the network"
PARTITIONS = 12
CUT_OFF_SECONDS = 10.0
NEWS_A_SECOND = 50

pytestmark = pytest.mark.timeout(1200)

_ECHO = """
import socket, sys
server = socket.create_server((sys.argv[1], 7777))
print("ready", flush=True)
connection, _ = server.accept()
while data := connection.recv(100):
    connection.sendall(data)
"""


async def test_a_host_without_its_cable_hears_and_says_nothing() -> None:
    with network(1) as net:
        host = net.hosts[0]
        server = await create_subprocess_exec(
            *(*host.prefix, sys.executable, "-c", _ECHO, host.address), stdout=PIPE
        )
        assert server.stdout is not None
        try:
            async with asyncio.timeout(10):
                await server.stdout.readline()
                reader, writer = await asyncio.open_connection(host.address, 7777)
                writer.write(b"a")
                assert await reader.readexactly(1) == b"a"
            net.isolate(host)
            writer.write(b"b")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.5):
                    await reader.readexactly(1)
            net.rejoin(host)
            # TCP sends again by itself, after ever longer pauses.
            async with asyncio.timeout(10):
                assert await reader.readexactly(1) == b"b"
            writer.close()
        finally:
            server.kill()
            await server.communicate()


@pytest.mark.skipif(not FULL, reason="elections after silence take long: make faults")
async def test_a_leader_that_is_cut_off_costs_no_news(tmp_path: Path) -> None:
    with network(3) as net:
        nodes = plan_nodes([host.address for host in net.hosts])
        cluster = make_cluster(
            tmp_path, nodes, prefixes=[host.prefix for host in net.hosts]
        )
        acknowledged: list[str] = []
        longest = 0.0
        try:
            await cluster.start()
            async with cluster.bus() as bus:
                publisher = LogPublisher(bus, await claim(bus, "ls"))
                publisher.on_stored = lambda item, new: acknowledged.append(
                    item.messages[0].encode().decode()
                )
                naive = NaiveWriter(bus, NEWS_A_SECOND)
                await naive.prepare(replicas=3)
                publishing = asyncio.create_task(publisher.run())
                writing = [
                    asyncio.create_task(write(publisher)),
                    asyncio.create_task(naive.run()),
                ]
                for _ in range(PARTITIONS):
                    leader = await cluster.leader(bus, NEWS)
                    host = net.hosts[cluster.nodes.index(leader)]
                    before = len(acknowledged)
                    started = asyncio.get_running_loop().time()
                    net.isolate(host)
                    # What is stored by the majority, while one is away.
                    async with asyncio.timeout(60):
                        while len(acknowledged) < before + 3 * NEWS_A_SECOND:
                            await asyncio.sleep(0.05)
                    lasted = asyncio.get_running_loop().time() - started
                    longest = max(longest, lasted)
                    await asyncio.sleep(max(0.0, CUT_OFF_SECONDS - lasted))
                    net.rejoin(host)
                    await cluster.healthy()
                for task in writing:
                    task.cancel()
                assert await publisher.flushed(60)
                publishing.cancel()
                control_lost = await naive.lost()
                stored = await stored_news(bus)
        finally:
            await cluster.stop()

    record(
        SUITE,
        {
            "partitions": PARTITIONS,
            "news_acknowledged": len(acknowledged),
            "news_lost": len(set(acknowledged) - set(stored)),
            "news_duplicated": len(stored) - len(set(stored)),
            "news_out_of_order": int(stored != sorted(stored, key=int)),
            "longest_until_stored_again_s": round(longest, 1),
            "control_lost": control_lost,
        },
        at_most={"news_lost": 0, "news_duplicated": 0, "news_out_of_order": 0},
        at_least={
            "news_acknowledged": 3 * NEWS_A_SECOND * PARTITIONS,
            "control_lost": 1,
        },
    )


async def write(publisher: LogPublisher) -> None:
    number = 0
    while True:
        encode = partial(bytes, b"%d" % number)
        subject = subjects.news("article")
        publisher.offer(LogEntry((LogMessage(subject, f"item{number}", encode),)))
        number += 1
        await asyncio.sleep(1 / NEWS_A_SECOND)
