"""Soft mixtures of experts, under the name that users import: registers ``soft_moe_vit_*`` with timm."""

from frofa.backbones.soft_moe import *  # noqa: F403 (the names of a module that lives elsewhere)
