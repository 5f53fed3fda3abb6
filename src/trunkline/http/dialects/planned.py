"""Wire formats that dispatch knows and nobody has built yet: each says so in its own product's error shape."""

from collections.abc import Callable, Mapping
from typing import Any

from starlette.types import Scope

from trunkline.context import App, Caller
from trunkline.errors import Broken, TrunklineError, Unauthenticated
from trunkline.http import dispatch
from trunkline.http.dialects.dialect import Dialect, Route
from trunkline.http.wire import Answer, encode


async def _nobody(app: App, scope: Scope, headers: Mapping[str, str], route: Route) -> Caller:
    del app, scope, headers, route
    raise Unauthenticated


def _planned(name: str, shape: Callable[[int, str], dict[str, Any]]) -> Dialect:
    def to_answer(error: TrunklineError, request_id: str) -> Answer:
        del request_id
        status = 500 if isinstance(error, Broken) else 404
        text = error.message if status == 500 else f"This hub does not speak the {name} wire format yet"
        return Answer(status, encode(shape(status, text)))

    return Dialect(name, (), _nobody, to_answer)


_TITLES = {404: "Not Found", 500: "Internal Server Error"}

DIALECTS = (
    _planned(
        dispatch.SPIKE,
        lambda status, text: {"message": text, "error": _TITLES[status].upper().replace(" ", "_")},
    ),
    _planned(
        dispatch.TOOLREGISTRY,
        lambda status, text: {"statusCode": status, "message": text, "error": _TITLES[status]},
    ),
)
