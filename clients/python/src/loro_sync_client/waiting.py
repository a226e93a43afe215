"""Waits for many tasks over one stream of events for each project."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Callable

from .task import Task

#: The most projects of one client whose tasks are waited for over streams. Others are polled.
_MOST_STREAMS = 8

#: Opens the stream of a project, and yields None whenever it has opened, and each task.
Reading = Callable[[str], AsyncIterator["Task | None"]]


class Ear:
    """The news that one waiter gets of its task: the newest state, or that the stream is gone."""

    def __init__(self, stream: ProjectStream, task_id: str) -> None:
        self._stream = stream
        self._task_id = task_id
        self._news = asyncio.Event()
        self._task: Task | None = None

    def tell(self, task: Task | None) -> None:
        """Hands over the task's state, or wakes the waiter, so that it reads the task itself."""
        self._task = task or self._task
        self._news.set()

    async def heard(self, timeout: float | None) -> Task | None:
        """Waits for news, and returns the task if the news has its state.

        Raises TimeoutError of asyncio after `timeout` seconds.
        """
        await asyncio.wait_for(self._news.wait(), timeout)
        self._news.clear()
        task, self._task = self._task, None
        return task

    @property
    def is_deaf(self) -> bool:
        """Returns whether the stream has ended, so that the task has to be polled."""
        return self._stream.is_over

    async def opened(self, timeout: float | None) -> None:
        """Waits until the stream has opened, or is over."""
        await asyncio.wait_for(self._stream.is_open.wait(), timeout)

    def close(self) -> None:
        """Ends the news."""
        self._stream.leave(self._task_id, self)


class ProjectStream:
    """The stream of a project, read by one task of asyncio while there are waiters."""

    def __init__(self, read: Reading, project_id: str, forget: Callable[[], object]) -> None:
        self.is_open = asyncio.Event()
        self.is_over = False
        self._ears: dict[str, list[Ear]] = {}
        self._forget = forget
        self._reader = asyncio.ensure_future(self._run(read, project_id))

    def join(self, task_id: str) -> Ear:
        """Gives a waiter the news of a task from now on."""
        ear = Ear(self, task_id)
        self._ears.setdefault(task_id, []).append(ear)
        return ear

    def leave(self, task_id: str, ear: Ear) -> None:
        """Forgets a waiter. With the last one the stream is closed."""
        ears = self._ears.get(task_id, [])
        if ear in ears:
            ears.remove(ear)
        if not ears:
            self._ears.pop(task_id, None)
        if not self._ears:
            self._reader.cancel()
            self._end()

    async def _run(self, read: Reading, project_id: str) -> None:
        try:
            async for task in read(project_id):
                if task is None:
                    self.is_open.set()
                    continue
                for ear in self._ears.get(task.task_id, []):
                    ear.tell(task)
        except Exception:
            # Each waiter then polls, and gets the error itself if it lasts.
            pass
        finally:
            self._end()

    def _end(self) -> None:
        if self.is_over:
            return
        self.is_over = True
        self._forget()
        self.is_open.set()
        for ears in self._ears.values():
            for ear in ears:
                ear.tell(None)


class ProjectStreams:
    """The streams of one client."""

    def __init__(self, read: Reading) -> None:
        self._read = read
        self._streams: dict[str, ProjectStream] = {}

    def join(self, project_id: str, task_id: str) -> Ear | None:
        """Gives a waiter the news of a task; None if there are as many streams as allowed."""
        stream = self._streams.get(project_id)
        if stream is None:
            if len(self._streams) >= _MOST_STREAMS:
                return None
            stream = ProjectStream(
                self._read, project_id, lambda: self._streams.pop(project_id, None)
            )
            self._streams[project_id] = stream
        return stream.join(task_id)
