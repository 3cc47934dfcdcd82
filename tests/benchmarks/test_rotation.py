"""Rotated images and the angles of the tasks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from avalanche_ext.benchmarks.sources import Source
from avalanche_ext.benchmarks.tasks import Seeds, Sizes, rotate, rotated
from tests.benchmarks.cases import made

ALL = Sizes(None, None, "first")
IMAGES = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))


class TestRotate:
    @pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
    @pytest.mark.parametrize("size", [8, 9])
    @pytest.mark.parametrize(
        ("degrees", "expected"),
        [
            (0, lambda x: x),
            (90, lambda x: torch.rot90(x, 1, (2, 3))),
            (180, lambda x: x.flip(2, 3)),
            (270, lambda x: torch.rot90(x, 3, (2, 3))),
            (360, lambda x: x),
        ],
    )
    def test_quarter_turns(
        self, degrees: float, expected: Callable[[Tensor], Tensor], size: int, interpolation: str
    ) -> None:
        x = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(
            rotate(x, degrees, interpolation), expected(x), atol=1e-5, rtol=0
        )

    def test_counter_clockwise_as_torchvision(self) -> None:
        from torchvision.transforms import InterpolationMode
        from torchvision.transforms.v2.functional import rotate as reference

        expected = reference(IMAGES, 30.0, interpolation=InterpolationMode.BILINEAR)
        torch.testing.assert_close(rotate(IMAGES, 30, "bilinear"), expected, atol=1e-5, rtol=0)

    @given(st.floats(-360, 360), st.sampled_from(["bilinear", "bicubic"]))
    def test_values_stay_in_the_unit_interval(self, degrees: float, interpolation: str) -> None:
        x = (IMAGES > 0.5).float()
        turned = rotate(x, degrees, interpolation)
        assert turned.min() >= 0
        assert turned.max() <= 1
        assert turned.shape == x.shape


class TestRotated:
    @staticmethod
    def angles(n: int, order: Any, max_angle: float = 180.0, run: int = 0) -> list[float]:
        """The angle of each task, read off a bright point to the right of the centre."""
        image = torch.zeros(1, 1, 101, 101)
        image[0, 0, 50, 90] = 1
        point = Source(image, torch.zeros(1).long(), image, torch.zeros(1).long(), n_classes=1)
        found = []
        for task in rotated(point, n, ALL, Seeds(run, order), max_angle, "bilinear"):
            x = made(task.train_x)
            assert torch.equal(x, made(task.test_x))
            mass = x[0, 0] / x.sum()
            grid = torch.arange(101.0) - 50
            angle = torch.atan2(-(mass.sum(1) @ grid), mass.sum(0) @ grid)
            found.append(torch.rad2deg(angle).item())
        return found

    def test_canonical_angles_are_equal_steps(self) -> None:
        assert self.angles(5, None, 120) == pytest.approx([0, 30, 60, 90, 120], abs=0.3)
        assert self.angles(1, None) == pytest.approx([0], abs=0.3)

    @pytest.mark.parametrize("order", [3, "seed"])
    def test_drawn_angles_ascend_through_equal_bins(self, order: Any) -> None:
        angles = self.angles(6, order)
        assert all(30 * i - 0.5 <= angle <= 30 * (i + 1) + 0.5 for i, angle in enumerate(angles))
        assert angles != pytest.approx([36 * i for i in range(6)], abs=0.5)

    def test_order_seed_decides(self) -> None:
        assert self.angles(3, 3, run=0) == self.angles(3, 3, run=1)
        assert self.angles(3, 3) != self.angles(3, 4)
        assert self.angles(3, "seed", run=0) != self.angles(3, "seed", run=1)
