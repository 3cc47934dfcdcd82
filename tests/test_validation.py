import pytest
from pydantic import PositiveInt

from avalanche_ext.validation import validated


class Example:
    @validated
    def __init__(self, size: PositiveInt = 3, *, names: list[str] | None = None) -> None:
        self.size, self.names = size, names


def test_right_arguments_pass_unchanged():
    example = Example(5, names=["a"])
    assert (example.size, example.names) == (5, ["a"])
    assert Example().size == 3


@pytest.mark.parametrize("call", [lambda: Example(0), lambda: Example(size=0)])
def test_what_is_wrong_is_named_however_it_is_given(call):
    with pytest.raises(ValueError, match=r"size\n.*greater than 0.*input_value=0"):
        call()


@pytest.mark.parametrize(
    "call", [lambda: Example(True), lambda: Example("3"), lambda: Example(2.0)]
)
def test_other_types_are_not_converted(call):
    with pytest.raises(ValueError, match="size"):
        call()


def test_unknown_arguments_are_refused_as_python_does():
    with pytest.raises(TypeError, match="sise"):
        Example(sise=3)
