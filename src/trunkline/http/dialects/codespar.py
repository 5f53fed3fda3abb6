"""The codespar wire format: `/api/…`, once more under `/v1`. What it documents and what is a choice: docs/codespar.md."""

from collections.abc import Mapping

from starlette.types import Scope

from trunkline.context import App, Caller
from trunkline.http import dispatch
from trunkline.http.dialects import codespar_wire as wire
from trunkline.http.dialects.dialect import Dialect, Route
from trunkline.http.wire import bearer_token
from trunkline.services import api_keys


async def _read_caller(app: App, scope: Scope, headers: Mapping[str, str], route: Route) -> Caller:
    return await api_keys.authenticate(app, bearer_token(scope) or "")


DIALECT = Dialect(
    dispatch.CODESPAR,
    (),
    _read_caller,
    wire.to_answer,
    headers=((b"x-api-version", b"v1"),),
    versions=("/v1",),
)
