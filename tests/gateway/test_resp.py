"""The bare Redis connection against a real server."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import redis
from redis.exceptions import ResponseError

from everloop.runtime.redis import RedisNode
from serving.gateway.resp import Resp


def test_replies_come_in_order_and_an_error_concerns_its_caller_alone(redis_url: str, namespace: str) -> None:
    async def visit() -> None:
        resp = Resp(redis_url)
        keys = [f"{namespace}{n}" for n in range(50)]
        await resp.call([("SET", key, key) for key in keys])
        answers = await asyncio.gather(*(resp.call([("GET", key), ("ECHO", key)]) for key in keys))
        assert answers == [[key.encode(), key.encode()] for key in keys]
        with pytest.raises(ResponseError, match="unknown command"):
            await resp.call([("NOSUCH",)])
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await resp.call([("BLPOP", f"{namespace}none", "0.3")])
        assert await resp.call([("ECHO", "after")]) == [b"after"], "the reply that nobody waited for was dropped"
        resp.close()
        await asyncio.sleep(0.01)  # the loop closes the socket in its next turn

    asyncio.run(visit())


def test_it_connects_again_and_logs_in(tmp_path: Path) -> None:
    async def visit() -> None:
        with RedisNode(tmp_path) as node:
            port = node.port
            with redis.Redis.from_url(node.url) as admin:
                admin.config_set("requirepass", "secret")
            resp = Resp(f"redis://:secret@127.0.0.1:{port}/3")
            await resp.call([("SET", "a", "1")])
            with redis.Redis.from_url(f"redis://:secret@127.0.0.1:{port}/3") as admin:
                assert admin.get("a") == b"1"
            wrong = Resp(f"redis://:wrong@127.0.0.1:{port}/0")
            with pytest.raises(ResponseError):
                await wrong.call([("PING",)])
        with pytest.raises(OSError, match=r".*"):
            await resp.call([("PING",)])
            await resp.call([("PING",)])
        resp.close()
        await asyncio.sleep(0.01)  # the loop closes the socket in its next turn

    asyncio.run(visit())


def test_a_connection_that_answers_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.gateway.resp.STUCK_S", 0.05)

    async def visit() -> None:
        connections = 0

        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal connections
            connections += 1
            await reader.read()
            writer.close()

        server = await asyncio.start_server(silent, "127.0.0.1", 0)
        resp = Resp(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0")
        for _ in range(2):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await resp.call([("PING",)])
        assert connections == 2
        resp.close()
        await asyncio.sleep(0.01)  # the loop closes the socket in its next turn
        server.close()
        await server.wait_closed()

    asyncio.run(visit())
