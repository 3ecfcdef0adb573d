"""Jobs whose client leaves."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

from rootless.engine.progress import ProgressStream, Report


async def test_a_job_that_fails_when_nobody_listens_any_more_is_no_defect() -> None:
    """The client was gone before the answer began: nothing is told, and nothing complains."""
    told: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, context: told.append(context))
    gone = asyncio.Event()

    async def work(report: Report) -> None:
        report({"status": "begun"})
        await gone.wait()
        raise ConnectionResetError("Connection lost")

    stream = await ProgressStream(work).begun()
    task = stream._task
    gone.set()
    await asyncio.wait([task])
    del stream, task
    gc.collect()
    await asyncio.sleep(0)
    assert not told
