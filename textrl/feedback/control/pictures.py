"""Frames of an environment as small data URLs: our own drawing where there is one, else the environment's.

Pillow does the encoding. A picture of an environment that draws itself comes from ``render()`` in the mode
``rgb_array``; Gymnasium's classic control needs pygame for that, so the two tasks that everybody starts
with are drawn here.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from typing import Any

import numpy as np

from textrl.errors import UserError
from textrl.feedback.control.settings import ControlSettings

#: Most bytes of a picture, before it becomes text.
MOST_BYTES = 30_000
_QUALITIES = (80, 60, 40, 25, 15)
_PILLOW = "Pictures need the package pillow; run pip install 'textrl-mdp[feedback]', or use --no-frames."
_INSTEAD = "use --no-frames, which shows the state's numbers"

Drawing = Callable[[Any, int | None, int], Any]


class Pictures:
    """Turns what an environment looks like now into a data URL.

    Attributes:
        render_mode: What the environment must be made with; None for our own drawing.
    """

    def __init__(self, settings: ControlSettings, sample: Any) -> None:
        """Choose how the environment is drawn.

        Args:
            settings: Of the session.
            sample: An environment of that kind, made in no render mode.

        Raises:
            UserError: When it cannot be drawn, or Pillow is missing.
        """
        try:
            import PIL  # noqa: F401
        except ModuleNotFoundError as error:
            raise UserError(_PILLOW) from error
        self._id, self._width = settings.env, settings.width
        self._drawing = _own_drawing(sample)
        self.render_mode: str | None = None
        if self._drawing is not None:
            return
        modes = sample.metadata.get("render_modes") or []
        if "rgb_array" not in modes:
            has = f"it has {', '.join(map(str, modes))}" if modes else "it has no render mode at all"
            raise UserError(
                f"The environment {settings.env} cannot be shown: {has}, and none is rgb_array; {_INSTEAD}."
            )
        self.render_mode = "rgb_array"

    def take(self, env: Any, action: int | None) -> str:
        """Return the picture of the environment as it is.

        Args:
            env: Made in `render_mode`, with an episode under way.
            action: What is done next, 0 .. A-1.

        Raises:
            UserError: When the environment draws no picture.
        """
        from PIL import Image

        if self._drawing is not None:
            return encoded(self._drawing(env.unwrapped, action, self._width))
        try:
            pixels = np.asarray(env.render())
        except Exception as error:  # a missing package or display: every environment's own
            said = " ".join(str(error).split()) or type(error).__name__
            raise UserError(
                f"The environment {self._id} cannot be drawn ({said[:200]}); install what it needs, or "
                f"{_INSTEAD}."
            ) from error
        if pixels.ndim != 3 or pixels.shape[2] not in (3, 4) or not pixels.size:
            raise UserError(
                f"The environment {self._id} draws no picture but an array of shape {pixels.shape}; "
                f"{_INSTEAD}."
            )
        picture = Image.fromarray(pixels[:, :, :3].astype(np.uint8))
        if picture.width > self._width:
            picture = picture.resize((self._width, max(1, picture.height * self._width // picture.width)))
        return encoded(picture)


def encoded(picture: Any) -> str:
    """Return a picture as a JPEG data URL of at most `MOST_BYTES`, as far as quality and size allow."""
    while True:
        for quality in _QUALITIES:
            stream = io.BytesIO()
            picture.save(stream, "JPEG", quality=quality, subsampling=0 if quality > 50 else 2)
            if stream.tell() <= MOST_BYTES:
                return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()
        picture = picture.resize((max(1, picture.width // 2), max(1, picture.height // 2)))


def _own_drawing(env: Any) -> Drawing | None:
    from gymnasium.envs.classic_control.cartpole import CartPoleEnv
    from gymnasium.envs.classic_control.mountain_car import MountainCarEnv

    from textrl.feedback.control import drawing

    if isinstance(env.unwrapped, MountainCarEnv):
        return drawing.mountain_car
    return drawing.cart_pole if isinstance(env.unwrapped, CartPoleEnv) else None
