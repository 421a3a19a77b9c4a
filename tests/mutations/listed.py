"""All of them, in the order of the table."""

from __future__ import annotations

from tests.mutations.asking import ANSWERED, ASKED, SEARCHED
from tests.mutations.identity import ACCESS, IDENTITY
from tests.mutations.importing import READ, RESERVED
from tests.mutations.servers import BEFORE, BEHIND

MUTATIONS = (*IDENTITY, *ACCESS, *ASKED, *SEARCHED, *ANSWERED, *BEFORE, *BEHIND, *RESERVED, *READ)
