"""States of objects: tensors and plain data, and back."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict, defaultdict, deque
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from avalanche_ext.state import NotStorableError, StateError, encoded, restored
from avalanche_ext.state.storages import Mover


class Holder:
    """Anything with attributes."""

    def __init__(self, **attributes):
        self.__dict__.update(attributes)

    def method(self):
        return self


def unordered(numbers):
    """A set of these numbers, not in the order in which it would be made of them."""
    made = set(range(300))
    for number in range(300):
        if number not in numbers:
            made.discard(number)
    order = [*made]
    assert [*set(order)] != order
    return made


def through_a_file(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def again(thing, **options):
    packages = {"packages": [__name__.partition(".")[0]]}
    return restored(through_a_file(encoded(thing, **packages)), **options, **packages)


@pytest.mark.parametrize(
    "thing",
    [
        None,
        [1, 2.5, "a", b"b", True, None, (1, 2), {3}, frozenset({4})],
        [*range(100)],
        [0.1 * i for i in range(100)],
        [2**100, *range(40)],
        {1: "a", (2, 3): [4], "b": {}},
        defaultdict(list, {1: [2]}),
        OrderedDict(a=1, b=2),
        deque([1, 2], maxlen=3),
        np.float32(0.1),
        torch.float64,
        torch.device("cpu"),
        torch.Size([2, 3]),
        # A repr with an address, which is another in each process that shares the tests.
        pytest.param(torch.zeros, id="torch.zeros"),
        nn.Linear,
        slice(1, 2),
    ],
    ids=repr,
)
def test_plain_things_come_back_equal(thing):
    back = again(thing)
    assert back == thing
    assert type(back) is type(thing)


@pytest.mark.parametrize("dtype", ["float32", "int64", "uint16", "bool", "<U3", "complex64"])
@pytest.mark.parametrize("shape", [(), (0,), (2, 3)])
def test_arrays_come_back_bit_for_bit(dtype, shape):
    array = np.ones(shape, dtype)
    back = again(array)
    assert (back.dtype, back.shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(back, array)
    back[...] = back  # It can be written to.


@pytest.mark.parametrize(
    "view",
    [
        lambda a: a,
        lambda a: a[1:3],
        lambda a: a[::-1],
        lambda a: a.T[1:, ::2],
        lambda a: a.real,
        torch.from_numpy,
    ],
    ids=["itself", "rows", "backwards", "columns", "real", "torch"],
)
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["f8", "c8"])
def test_arrays_that_share_memory_still_do(view, order, dtype):
    array = np.arange(12).reshape(4, 3).astype(dtype, order)
    back, part = again([array, view(array)])
    assert back.strides == array.strides
    np.testing.assert_array_equal(np.asarray(part), np.asarray(view(array)))
    back *= 2
    np.testing.assert_array_equal(np.asarray(part), np.asarray(view(back)))


def test_a_tensors_array_shares_its_memory():
    tensor = torch.arange(4.0)
    back, array = again([tensor, tensor.numpy()])
    back[0] = 7
    assert array.tolist() == [7, 1, 2, 3]


def test_fields_of_a_structured_array_are_views_of_it():
    array = np.zeros(3, [("n", int), ("x", float)])
    back, field, one = again([array, array["x"], array[0]])
    back["x"] = [1, 2, 3]
    assert (back.dtype, field.tolist(), one.dtype) == (array.dtype, [1, 2, 3], array.dtype)


def test_a_small_part_of_a_large_array_is_stored_alone():
    file = io.BytesIO()
    torch.save(encoded([np.zeros(100_000)[5:8]]), file)
    assert file.tell() < 5_000


def test_arrays_that_cannot_be_written_to_stay_so():
    back = again(np.broadcast_to(np.float64(3), (2, 2)))
    assert back.tolist() == [[3, 3], [3, 3]]
    assert not back.flags.writeable


def test_generators_continue_where_they_were():
    of_numpy, of_torch = np.random.default_rng(3), torch.Generator().manual_seed(4)
    of_numpy.random(5), torch.rand(5, generator=of_torch)
    numpys, torchs = again([of_numpy, of_torch])
    assert numpys.random() == of_numpy.random()
    assert torch.equal(torch.rand(3, generator=torchs), torch.rand(3, generator=of_torch))


def test_numpys_generators_share_their_bits_and_have_the_same_children():
    generator = np.random.default_rng([3, 2**80])
    generator.spawn(2)
    one, other = again([generator, np.random.Generator(generator.bit_generator)])
    assert one.bit_generator is other.bit_generator
    (child,), (expected,) = one.spawn(1), generator.spawn(1)
    assert child.random() == expected.random()


def test_shared_objects_stay_shared_and_cycles_closed():
    shared = [1]
    holder = Holder(a=shared, b=shared, tensor=torch.ones(2))
    holder.itself, holder.same, holder.bound = holder, holder.tensor, holder.method
    back = again(holder)
    assert back.a is back.b
    assert back.same is back.tensor
    assert back.itself is back
    assert back.bound() is back


def test_a_model_and_its_optimizer_go_on_bit_for_bit():
    def step(model, optimizer):
        optimizer.zero_grad()
        model(torch.arange(8.0).reshape(4, 2)).square().sum().backward()
        optimizer.step()

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    step(model, optimizer)
    other_model, other_optimizer = again([model, optimizer])
    assert other_optimizer.param_groups[0]["params"][0] is other_model[0].weight
    step(model, optimizer)
    step(other_model, other_optimizer)
    other_weights = other_model.state_dict()
    for name, weights in model.state_dict().items():
        assert torch.equal(weights, other_weights[name]), name


def test_a_small_part_of_a_large_tensor_is_stored_alone():
    large = torch.arange(100_000.0)
    file = io.BytesIO()
    torch.save(encoded({"part": large[5:8]}), file)
    assert len(file.getvalue()) < 5_000
    both = again([large[:50_000], large[50_000:]])
    assert torch.equal(torch.cat(both), large)


def test_tensors_that_overlap_are_stored_once_and_stay_shared():
    large = torch.arange(100_000.0).reshape(100, 1000)
    rows = large[3:6]
    things = [rows, rows[1], rows.view(torch.int32)[2], large[4].expand(7, 1000), large[90]]
    file = io.BytesIO()
    torch.save(encoded(things), file)
    assert len(file.getvalue()) < 4 * 4000 + 5_000
    back, one, as_int, repeated, other = again(things)
    for new, old in zip([back, one, as_int, repeated, other], things, strict=True):
        assert torch.equal(new, old)
        assert new.stride() == old.stride()
    back.zero_()
    assert not any(each.any() for each in (one, as_int, repeated))
    assert other.all()


def test_a_column_is_stored_without_the_others():
    large = torch.arange(100_000.0).reshape(1000, 100)
    file = io.BytesIO()
    torch.save(encoded([large[:, 3]]), file)
    assert len(file.getvalue()) < 4 * 1000 + 5_000
    assert torch.equal(again(large[:, 3]), large[:, 3])


def test_a_view_of_a_parameter_that_is_filled_in_is_one_of_it_again():
    def made(value):
        weights = nn.Parameter(torch.full((4,), value))
        return {"watching": weights.data[1:3], "weights": weights}

    there = made(1.0)
    weights = there["weights"]
    back = again(made(2.0), onto=there)
    assert back["weights"] is weights
    with torch.no_grad():
        weights.add_(1)
    assert back["watching"].tolist() == [3, 3]


def test_tensors_that_share_memory_share_it_on_another_device():
    large, mover, device = torch.zeros(3, 4), Mover(), torch.device("meta")
    one, other, apart = (mover.on(each, device) for each in (large[1], large[:, 1], large.clone()))
    assert (one.shape, other.stride(), other.storage_offset()) == ((4,), (4,), 1)
    places = [each.untyped_storage()._cdata for each in (one, other, apart)]
    assert places[0] == places[1] != places[2]
    assert mover.on(large, torch.device("cpu")) is large


@pytest.mark.parametrize("bits", [torch.conj, lambda x: x.conj().imag], ids=["conj", "neg"])
def test_numbers_with_a_sign_in_waiting_come_back_equal(bits):
    thing = bits(torch.tensor([1 + 2j, 3 - 4j]))
    assert torch.equal(again(thing), thing)


def test_objects_that_are_there_are_filled_in():
    old = Holder(inner=Holder(n=1), p=nn.Parameter(torch.zeros(2)))
    now = Holder(inner=Holder(n=2, more=3), p=nn.Parameter(torch.ones(2)))
    inner, parameter = now.inner, now.p
    back = again(old, onto=now)
    assert back is now
    assert now.inner is inner
    assert vars(inner) == {"n": 1}
    assert now.p is parameter
    assert torch.equal(parameter, torch.zeros(2))


def test_a_function_within_a_function_is_kept_from_what_is_there():
    def made():
        return lambda: 1

    state = through_a_file(encoded({"f": made()}))
    there = {"f": made()}
    function = there["f"]
    assert restored(state, there)["f"] is function
    with pytest.raises(StateError, match="needs the function"):
        restored(state, {"f": len})


def counting():
    """A list, a function that appends to it, and one that counts its own calls."""
    seen, n = [], 0

    def count():
        nonlocal n
        n += 1
        return n if n < 100 else count

    return {"seen": seen, "note": lambda x: seen.append(x), "count": count}


def test_a_functions_variables_from_outside_it_come_back():
    old, there = counting(), counting()
    old["note"](1), old["count"]()
    back = restored(through_a_file(encoded(old)), there)
    back["note"](2)
    assert back["note"] is there["note"]
    assert (back["seen"], back["count"]()) == ([1, 2], 2)


def test_live_objects_are_named_and_not_stored():
    data = torch.zeros(10_000)
    state = encoded([data, data], live=lambda thing: "data" if thing is data else None)
    assert not any(isinstance(part, torch.Tensor) for node in state["nodes"] for part in node)
    back = restored(through_a_file(state), live={"data": data}.__getitem__)
    assert back[0] is data
    with pytest.raises(StateError, match="it needs data, which does not exist here"):
        restored(state)


@pytest.mark.parametrize(
    ("thing", "message"),
    [
        (iter([1]), "cannot be stored"),
        ((i for i in range(3)), "is a generator, which cannot be stored"),
        (threading.Lock(), "is a lock, which cannot be stored"),
        (type("Local", (), {})(), "defined within a function"),
        (np.ma.array([1, 2], mask=[0, 1]), "is a MaskedArray, which cannot be stored"),
        (unordered({64, 1, 130, 7}), "is a set whose order cannot be restored"),
    ],
)
def test_what_has_no_state_is_named(thing, message):
    with pytest.raises(NotStorableError, match=message):
        encoded({"plugins": [thing]})


def test_the_owner_of_what_has_no_state_is_named():
    with pytest.raises(NotStorableError, match=r"Holder\.loader is a generator"):
        encoded(Holder(loader=(i for i in [1])), packages=[__name__.partition(".")[0]])


@pytest.mark.parametrize(
    "nodes",
    [
        [["global", "os:system"]],
        [["call", "os:system", ["true"], None, None, None]],
        [["call", "builtins:eval", ["1"], None, None, None]],
        [["object", "subprocess:Popen", None]],
        [["call", "torch:load", ["/etc/passwd"], None, None, None]],
        [["call", "numpy:memmap", ["/etc/passwd"], None, None, None]],
        [["new", "numpy:memmap", ["/etc/passwd"], None, None, None]],
        [["nonsense"]],
        [["list", [(7,)]]],
        [["tensor"]],
        [5],
        [],
    ],
    ids=repr,
)
def test_a_state_that_asks_for_something_else_is_refused(nodes):
    with pytest.raises(StateError):
        restored({"format": 2, "root": (0,), "nodes": nodes})


@pytest.mark.parametrize("state", [None, {}, {"format": 3}, 3, {"format": 2, "nodes": []}])
def test_a_malformed_state_is_refused(state):
    with pytest.raises(StateError):
        restored(state)


def test_partial_functions_come_back():
    assert again(partial(max, 3))(2) == 3
