"""The params of each task type, for `submit_task`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .images import Image, Picture, is_url, load_image

#: The task type of `kling_video_params`.
KLING_VIDEO = "kling_video"
#: The task types of `nano_banana_params`.
NANO_BANANA = "nano_banana"
NANO_BANANA_PRO = "nano_banana_pro"


def kling_video_params(
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
) -> dict[str, Any]:
    """Makes the params of a video, from an image or (`image_path=None`) from the prompt alone.

    `image_path`, and `image_tail` for the last picture, are given to `load_image`, and its errors
    are raised; `submit_task` uploads them. `duration` is in seconds: older models take 5 or 10,
    newer ones 3 to 15. `cfg_scale` is 0 to 1, `mode` std, pro or, of some models, 4k.
    `aspect_ratio` is for a video without an image. The server refuses what the model does not take.
    """
    return _given(
        prompt=prompt,
        negative_prompt=negative_prompt,
        image_path=None if image_path is None else load_image(image_path),
        image_tail=None if image_tail is None else load_image(image_tail),
        duration=duration,
        cfg_scale=cfg_scale,
        mode=mode,
        model=model,
        aspect_ratio=aspect_ratio,
    )


def nano_banana_params(
    text: str,
    system_prompt: str = "",
    aspect_ratio: str | None = "4:3",
    base64_images: Iterable[str] | None = None,
    reference_image_urls: Iterable[str] | None = None,
    image_paths: Iterable[Image] | None = None,
    image_size: str | None = None,
    *,
    edit_of: str | None = None,
) -> dict[str, Any]:
    """Makes the params of a picture, from a text and perhaps from other pictures.

    Each of `image_paths` is given to `load_image`, and its errors are raised. URLs among them are
    added to `reference_image_urls`, all others to `base64_images`; `submit_task` uploads those that
    were files or bytes. `image_size` is 1K, 2K or 4K. `edit_of` is the id of a completed task of
    the same type, whose picture is to be changed as the text says. The server refuses what the
    model does not take.
    """
    in_base64: list[str | Picture] = list(base64_images or ())
    urls = list(reference_image_urls or ())
    for image in map(load_image, image_paths or ()):
        if isinstance(image, str) and is_url(image):
            urls.append(image)
        else:
            in_base64.append(image)
    return _given(
        prompt=text,
        system_prompt=system_prompt or None,
        aspect_ratio=aspect_ratio,
        base64_images=in_base64 or None,
        reference_image_urls=urls or None,
        image_size=image_size,
        edit_of=edit_of,
    )


def _given(**params: Any) -> dict[str, Any]:
    return {name: value for name, value in params.items() if value is not None}
