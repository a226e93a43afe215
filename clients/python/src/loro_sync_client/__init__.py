"""A client that submits image and video tasks to a Loro Sync Server and waits for the results."""

from .async_client import AsyncSyncServerClient
from .client import SyncServerClient
from .errors import (
    Conflict,
    FieldError,
    InvalidSignature,
    InvalidTask,
    NotFound,
    ServerUnavailable,
    SyncServerError,
    TaskCancelled,
    TaskFailed,
    Unauthorized,
    WaitTimeout,
)
from .images import MAX_IMAGE_BYTES, Image, Picture, encode_image, load_image
from .notifications import verify_notification
from .options import SubmitOptions, TaskEvent
from .retry import RetryPolicy
from .task import SubmittedTask, Task, TaskPage, TaskRef, TaskStatus
from .task_params import kling_video_params, nano_banana_params
from .tasks import (
    submit_kling_video_task,
    submit_kling_video_task_async,
    submit_nano_banana_task,
    submit_nano_banana_task_async,
)
from .uploads import Content, Upload

__all__ = [
    "MAX_IMAGE_BYTES",
    "AsyncSyncServerClient",
    "Conflict",
    "Content",
    "FieldError",
    "Image",
    "InvalidSignature",
    "InvalidTask",
    "NotFound",
    "Picture",
    "RetryPolicy",
    "ServerUnavailable",
    "SubmitOptions",
    "SubmittedTask",
    "SyncServerClient",
    "SyncServerError",
    "Task",
    "TaskCancelled",
    "TaskEvent",
    "TaskFailed",
    "TaskPage",
    "TaskRef",
    "TaskStatus",
    "Unauthorized",
    "Upload",
    "WaitTimeout",
    "encode_image",
    "kling_video_params",
    "load_image",
    "nano_banana_params",
    "submit_kling_video_task",
    "submit_kling_video_task_async",
    "submit_nano_banana_task",
    "submit_nano_banana_task_async",
    "verify_notification",
]
