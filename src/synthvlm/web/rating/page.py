"""Serves the pairs of a rating to one rater, in an order and on sides of the rater's own.

Neither addresses nor sizes nor the order say which picture is of A: addresses are random, both
pictures come as WebP of one size, and sides are chosen by a hash of seed, rater and pair. The same
hash orders the pairs, so that a rater who comes back goes on where the answers end.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

from synthvlm.rating.folder import SIDES, Answer, Choice, RatedPair, RatingFolder, Side
from synthvlm.rating.pictures import level, on_canvas
from synthvlm.rating.prepare import Rating
from synthvlm.web.messages import BadRequestError, Handler, Request, Response, as_json, files

__all__ = ["RatingPage"]

_STATIC = Path(__file__).parent / "static"
_KEYS = ("left", "right", "tie", "bad")
#: Pairs whose pictures are held.
_HELD = 8
_LONGEST_S = 86_400.0


class RatingPage:
    """The state of one rater's work.

    Attributes:
        rater: Whose work it is.
        routes: For ``LocalServer``.
    """

    def __init__(self, rating: Rating, rater: str) -> None:
        """Go on where the rater's answers end.

        Args:
            rating: What is rated.
            rater: Name of the rater.
        """
        self.rater = rater
        self._folder: RatingFolder = rating.folder
        self._setup = rating.setup
        self._pairs = sorted(rating.pairs, key=lambda pair: self._hash(pair, "order"))
        self._by_key = {pair.key: pair for pair in rating.pairs}
        self._tokens = {pair.key: secrets.token_urlsafe(12) for pair in rating.pairs}
        self._pictures = {
            (pair.key, side): secrets.token_urlsafe(12) for pair in rating.pairs for side in SIDES
        }
        self._of_token = {token: key for key, token in self._tokens.items()}
        self._of_picture = {token: picture for picture, token in self._pictures.items()}
        self._lock = Lock()
        # In the order in which they were given: the last one can be taken back.
        self._answered = {
            answer.pair: answer.choice
            for answer in rating.folder.answers()
            if answer.rater == rater and not answer.is_model
        }
        self._both_pictures = lru_cache(maxsize=_HELD)(self._encoded)
        self.routes: dict[tuple[str, str], Handler] = {
            **files(_STATIC),
            ("GET", "/api/rating"): lambda _: as_json(self.state()),
            ("POST", "/api/answer"): self._answer,
            ("POST", "/api/undo"): self._undo,
            ("GET", "/picture/"): self._picture,
        }

    @property
    def done(self) -> int:
        """Pairs that the rater has rated."""
        return len(self._answered)

    def state(self) -> dict[str, Any]:
        """What the page shows."""
        left = [pair for pair in self._pairs if pair.key not in self._answered][:2]
        shown = [self._shown(pair) for pair in left]
        return {
            "question": self._setup.question,
            "rater": self.rater,
            "done": self.done,
            "total": len(self._pairs),
            "can_undo": bool(self._answered),
            "pair": shown[0] if shown else None,
            "next": shown[1] if len(shown) > 1 else None,
        }

    def left_side(self, pair: RatedPair) -> Side:
        """Which picture of a pair this rater sees on the left."""
        return SIDES[self._hash(pair, "side") % 2]

    def _hash(self, pair: RatedPair, what: str) -> int:
        text = f"{self._setup.seed}\n{self.rater}\n{pair.key}\n{what}"
        digest = hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest()
        return int.from_bytes(digest)

    def _shown(self, pair: RatedPair) -> dict[str, str]:
        first = self.left_side(pair)
        second = SIDES[1 - SIDES.index(first)]
        return {
            "pair": self._tokens[pair.key],
            "caption": pair.caption,
            "left": f"/picture/{self._pictures[pair.key, first]}",
            "right": f"/picture/{self._pictures[pair.key, second]}",
        }

    def _answer(self, request: Request) -> Response:
        values = request.json()
        key = self._of_token.get(str(values.get("pair")))
        pressed = values.get("choice")
        if key is None or pressed not in _KEYS:
            raise BadRequestError("no such pair or choice: reload the page")
        pair = self._by_key[key]
        left = self.left_side(pair)
        right = SIDES[1 - SIDES.index(left)]
        meaning: Mapping[str, Choice] = {"left": left, "right": right, "tie": "tie", "bad": "bad"}
        answer = Answer(
            key, self.rater, meaning[pressed], left, seconds=_seconds(values.get("seconds"))
        )
        with self._lock:
            self._folder.add(answer)
            self._answered.pop(key, None)
            self._answered[key] = answer.choice
        return as_json(self.state())

    def _undo(self, _: Request) -> Response:
        with self._lock:
            if not self._answered:
                raise BadRequestError("there is nothing to take back")
            last = next(reversed(self._answered))
            self._folder.add(Answer(last, self.rater, None))
            del self._answered[last]
        return as_json(self.state())

    def _picture(self, request: Request) -> Response:
        picture = self._of_picture.get(request.path)
        if picture is None:
            raise BadRequestError("no such picture: reload the page")
        key, side = picture
        return Response(self._both_pictures(key)[SIDES.index(side)], "image/webp", lasting=True)

    def _encoded(self, key: str) -> tuple[bytes, bytes]:
        a, b = self._by_key[key].images
        first, second = level((self._folder.image(a), self._folder.image(b)))
        return on_canvas(first), on_canvas(second)


def _seconds(value: object) -> float | None:
    """The seconds that a page reports, if they can be."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return round(float(value), 2) if 0 <= value <= _LONGEST_S else None
