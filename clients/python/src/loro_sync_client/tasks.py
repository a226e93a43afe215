"""The functions that submit a task of each type."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from .async_client import AsyncSyncServerClient
from .client import SyncServerClient
from .images import Image
from .options import SubmitOptions
from .task_params import (
    KLING_VIDEO,
    NANO_BANANA,
    NANO_BANANA_PRO,
    kling_video_params,
    nano_banana_params,
)

if TYPE_CHECKING:
    from typing_extensions import Unpack


def submit_kling_video_task(
    project_id: str,
    image_path: Image | None,
    prompt: str,
    duration: int | str = 5,
    cfg_scale: float = 0.5,
    negative_prompt: str | None = None,
    mode: str = "std",
    model: str = "kling-v1",
    *,
    image_tail: Image | None = None,
    aspect_ratio: str | None = None,
    client: SyncServerClient | None = None,
    **options: Unpack[SubmitOptions],
) -> str:
    """Submits a video task and returns its id.

    The params are those of `kling_video_params`, the options those of
    `SyncServerClient.submit_task`; the errors are those of both. Without a `client`, one is made
    for this call, from the environment. To check the notification to a `callback_url`, use
    `submit_task` instead: it returns the secret.
    """
    params = kling_video_params(
        image_path,
        prompt,
        duration,
        cfg_scale,
        negative_prompt,
        mode,
        model,
        image_tail=image_tail,
        aspect_ratio=aspect_ratio,
    )
    return _submit(client, project_id, KLING_VIDEO, params, options)


async def submit_kling_video_task_async(
    project_id: str,
    image_path: Image | None,
    prompt: str,
    duration: int | str = 5,
    cfg_scale: float = 0.5,
    negative_prompt: str | None = None,
    mode: str = "std",
    model: str = "kling-v1",
    *,
    image_tail: Image | None = None,
    aspect_ratio: str | None = None,
    client: AsyncSyncServerClient | None = None,
    **options: Unpack[SubmitOptions],
) -> str:
    """Does the same as `submit_kling_video_task`, for asyncio; a thread reads the files."""
    params = await asyncio.to_thread(
        kling_video_params,
        image_path,
        prompt,
        duration,
        cfg_scale,
        negative_prompt,
        mode,
        model,
        image_tail=image_tail,
        aspect_ratio=aspect_ratio,
    )
    return await _submit_async(client, project_id, KLING_VIDEO, params, options)


def submit_nano_banana_task(
    project_id: str,
    text: str,
    system_prompt: str = "",
    aspect_ratio: str | None = "4:3",
    base64_images: Iterable[str] | None = None,
    reference_image_urls: Iterable[str] | None = None,
    image_paths: Iterable[Image] | None = None,
    image_size: str | None = None,
    pro: bool = False,
    *,
    edit_of: str | None = None,
    client: SyncServerClient | None = None,
    **options: Unpack[SubmitOptions],
) -> str:
    """Submits a picture task and returns its id.

    The params are those of `nano_banana_params`, and `pro` selects the better model; the options
    are those of `SyncServerClient.submit_task`; the errors are those of both. Without a `client`,
    one is made for this call, from the environment. To check the notification to a
    `callback_url`, use `submit_task` instead: it returns the secret.
    """
    params = nano_banana_params(
        text,
        system_prompt,
        aspect_ratio,
        base64_images,
        reference_image_urls,
        image_paths,
        image_size,
        edit_of=edit_of,
    )
    return _submit(client, project_id, NANO_BANANA_PRO if pro else NANO_BANANA, params, options)


async def submit_nano_banana_task_async(
    project_id: str,
    text: str,
    system_prompt: str = "",
    aspect_ratio: str | None = "4:3",
    base64_images: Iterable[str] | None = None,
    reference_image_urls: Iterable[str] | None = None,
    image_paths: Iterable[Image] | None = None,
    image_size: str | None = None,
    pro: bool = False,
    *,
    edit_of: str | None = None,
    client: AsyncSyncServerClient | None = None,
    **options: Unpack[SubmitOptions],
) -> str:
    """Does the same as `submit_nano_banana_task`, for asyncio; a thread reads the files."""
    params = await asyncio.to_thread(
        nano_banana_params,
        text,
        system_prompt,
        aspect_ratio,
        base64_images,
        reference_image_urls,
        image_paths,
        image_size,
        edit_of=edit_of,
    )
    return await _submit_async(
        client, project_id, NANO_BANANA_PRO if pro else NANO_BANANA, params, options
    )


def _submit(
    client: SyncServerClient | None,
    project_id: str,
    task_type: str,
    params: Mapping[str, Any],
    options: SubmitOptions,
) -> str:
    chosen = client or SyncServerClient()
    try:
        submitted = chosen.submit_task(project_id, task_type, params, **options)
        return submitted.task_id
    finally:
        if client is None:
            chosen.close()


async def _submit_async(
    client: AsyncSyncServerClient | None,
    project_id: str,
    task_type: str,
    params: Mapping[str, Any],
    options: SubmitOptions,
) -> str:
    chosen = client or AsyncSyncServerClient()
    try:
        submitted = await chosen.submit_task(project_id, task_type, params, **options)
        return submitted.task_id
    finally:
        if client is None:
            await chosen.aclose()
