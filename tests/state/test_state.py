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


def test_generators_continue_where_they_were():
    of_numpy, of_torch = np.random.default_rng(3), torch.Generator().manual_seed(4)
    of_numpy.random(5), torch.rand(5, generator=of_torch)
    numpys, torchs = again([of_numpy, of_torch])
    assert numpys.random() == of_numpy.random()
    assert torch.equal(torch.rand(3, generator=torchs), torch.rand(3, generator=of_torch))


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
        restored({"format": 1, "root": (0,), "nodes": nodes})


@pytest.mark.parametrize("state", [None, {}, {"format": 2}, 3, {"format": 1, "nodes": []}])
def test_a_malformed_state_is_refused(state):
    with pytest.raises(StateError):
        restored(state)


def test_partial_functions_come_back():
    assert again(partial(max, 3))(2) == 3
