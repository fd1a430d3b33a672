"""The command line of the simulator."""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import signal
import sys
from pathlib import Path

from simulator.faults import FaultError
from simulator.fmp_frames import TIMESTAMPS
from simulator.news import per_minute
from simulator.settings import Settings
from simulator.simulation import Simulator
from simulator.wire import compact


# How many looks at what is new come before one at everything; by default ten.
_LOOKS = 1_000


def parse(arguments: list[str]) -> Settings:
    """Return the settings that the command line asks for."""
    parser = argparse.ArgumentParser(prog="simulator", description=__doc__)
    add = parser.add_argument
    add("--seed", type=int, default=1)
    add("--rate", type=_not_negative, default=500.0, help="price messages a second")
    add(
        "--tick",
        type=_positive,
        default=0.01,
        help="seconds between two batches of prices; a finer one costs more",
    )
    add(
        "--news-rate",
        type=_news_rate,
        default=per_minute("realistic"),
        help="realistic, stress, or a number of items a minute",
    )
    add("--host", default="127.0.0.1")
    add("--base-port", type=int, default=9100, help="0 lets the kernel choose all")
    add("--scenario", type=Path)
    add("--replay", type=Path)
    add("--replay-speed", type=_positive, default=1.0)
    add("--api-key", action="append", help="an accepted FMP key; may be repeated")
    add(
        "--fmp-slot",
        choices=("refuse_new", "kick_old", "unlimited"),
        default="refuse_new",
        help="what a second login with the same key on the same port meets",
    )
    add("--fmp-heartbeat-seconds", type=_positive, default=10.0)
    add("--crypto-venues", default="binance", help="separated by commas")
    add("--crypto-timestamp", choices=TIMESTAMPS, default="20 digits")
    add("--ls-app-key", default="simulator")
    add("--ls-app-secret", default="simulator")
    add("--ls-paper-app-key", default="simulator-paper")
    add("--ls-paper-app-secret", default="simulator-paper")
    add("--ls-page-size", type=int, default=0, help="0 sends a master in one page")
    add("--tls-cert", type=Path)
    add("--tls-key", type=Path)
    given = vars(parser.parse_args(arguments))
    news_rate = given.pop("news_rate")
    keys = tuple(given.pop("api_key") or ("simulator",))
    venues = tuple(given.pop("crypto_venues").split(","))
    return Settings(
        **given, news_per_minute=news_rate, api_keys=keys, crypto_venues=venues
    )


def _not_negative(text: str) -> float:
    number = float(text)
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"was {text!r}, not a number of 0 or more")
    return number


def _positive(text: str) -> float:
    number = _not_negative(text)
    if number == 0:
        raise argparse.ArgumentTypeError("was 0")
    return number


def _news_rate(text: str) -> float:
    try:
        return per_minute(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


async def run(settings: Settings) -> None:
    """Run until a signal says stop."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with Simulator(settings).running() as simulator:
        # Looking at what is there to stay would hold up every feed for 50 ms at times;
        # what comes is news in the archive, and goes without being looked for.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*gc.get_threshold()[:2], _LOOKS)
        print(compact({"event": "ready", **simulator.urls}), flush=True)
        await stop.wait()


def main() -> int:
    """Run the simulator and return its exit code."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    settings = parse(sys.argv[1:])
    try:
        asyncio.run(run(settings))
    except (FaultError, OSError) as error:
        print(f"simulator: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
