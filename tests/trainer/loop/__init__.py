"""Tests of the trainer's loop: steps, validation, gate, checkpoints, publishing, versions."""
