"""The wire formats beside native: one file per product. Spelling lives here, behaviour in the services."""

from trunkline.http.dialects.codespar import DIALECT as CODESPAR
from trunkline.http.dialects.dialect import Dialect
from trunkline.http.dialects.planned import DIALECTS as PLANNED
from trunkline.http.dialects.supportbot import DIALECT as SUPPORTBOT

BY_NAME: dict[str, Dialect] = {dialect.name: dialect for dialect in (CODESPAR, SUPPORTBOT, *PLANNED)}
