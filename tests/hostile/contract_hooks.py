"""What schemathesis does for us, in its own environment: ask models that are there, and hold answers to one shape.

Not here: starting it (`contract.py`). `CONTRACT_SEEN` names the file that gets a line for each answer.
"""

import os
from pathlib import Path
from typing import Any

import schemathesis

_SEEN = Path(os.environ["CONTRACT_SEEN"])


@schemathesis.hook  # type: ignore[untyped-decorator, unused-ignore]  # is not installed where types are checked
def map_body(context: Any, body: Any) -> Any:
    """Ask for a model that is there, two times in three, or nothing would get past its name."""
    if isinstance(body, dict) and isinstance(body.get("model"), str) and len(body["model"]) % 3:
        body["model"] = "a"
    return body


@schemathesis.check  # type: ignore[untyped-decorator, unused-ignore]  # as above
def one_shape(ctx: Any, response: Any, case: Any) -> None:
    """No fault of ours; an error in OpenAI's shape. 501 is for methods that HTTP itself may leave out (TRACE)."""
    id_ = response.headers.get("x-trivet-id", [""])[0]
    with _SEEN.open("a") as seen:
        seen.write(f"{response.status_code} {id_}\n")
    assert response.status_code < 500 or response.status_code == 501, response.status_code
    if response.status_code >= 400 and case.method.upper() != "HEAD":
        error = response.json()["error"]
        assert error.keys() == {"message", "type", "param", "code"}
        assert isinstance(error["message"], str)
        assert error["message"]
