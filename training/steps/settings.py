"""The settings of the networks' trainings, from the sections of a recipe."""

from __future__ import annotations

from dataclasses import replace

from ..config import FaceConfig, FusionConfig, VoiceConfig
from ..launch import face_recipe, fusion_recipe, voice_recipe
from ..recipe_file import FaceSection, FusionSection, VoiceSection
from ..recipes import FaceRecipe, FusionRecipe, VoiceRecipe


def make_face_recipe(section: FaceSection, seed: int) -> FaceRecipe:
    """Return the settings of a face network."""
    return face_recipe(
        FaceConfig(
            seed=seed,
            learning=section.learning,
            network=section.network,
            rounds=section.rounds,
            rare_label_share=section.rare_label_share,
            compile_model=section.compile_model,
        )
    )


def make_voice_recipe(section: VoiceSection, seed: int) -> VoiceRecipe:
    """Return the settings of a voice network."""
    return voice_recipe(
        VoiceConfig(
            seed=seed,
            learning=section.learning,
            network=section.network,
            augmentation=section.augmentation,
            num_epochs=section.num_epochs,
        )
    )


def make_fusion_recipe(section: FusionSection, seed: int, num_pairs: int) -> FusionRecipe:
    """Return the settings of a fusion network. There are as many pairs as the validation people
    give, so a batch holds at most all of them."""
    settings = fusion_recipe(
        FusionConfig(
            seed=seed,
            learning=section.learning,
            kind=section.kind,
            num_epochs=section.num_epochs,
            modality_dropout=section.modality_dropout,
        )
    )
    return replace(settings, batch_size=min(settings.batch_size, num_pairs))
