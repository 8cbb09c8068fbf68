from __future__ import annotations

import dockerfile
from tests.ci import examples

TEXT = """\
# The base.
FROM base AS build
COPY . /src

RUN --mount=type=cache,target=/root/.cache --network=none \\
    make   all \\
# why it is stripped
    && strip app
FROM base
COPY --from=build /src/app /app
COPY . /src
RUN echo a\\b
"""


def test_each_instruction_is_found_on_the_line_on_which_it_begins() -> None:
    assert dockerfile.instructions(TEXT) == {
        "FROM base AS build": 2,
        "RUN make all && strip app": 5,
        "FROM base": 9,
        "COPY --from=build /src/app /app": 10,
        # Of two alike the one of the final stage, whose layers an image has.
        "COPY . /src": 11,
        "RUN echo a\\b": 12,
    }


def test_layers_know_their_lines_and_the_base_has_none() -> None:
    made = [
        examples.BASE.model_copy(update={"created_by": created_by})
        for created_by in ("pulled from base", "RUN make all && strip app", "COPY --from=build /src/app /app", "")
    ]
    located = dockerfile.located(examples.image(*made), TEXT)
    assert [layer.dockerfile_line for layer in located.layers] == [None, 5, 10, None]
    assert [layer.created_by for layer in located.layers] == [layer.created_by for layer in made]
