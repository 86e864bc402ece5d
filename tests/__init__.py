"""Tests of musicgen; what several of them share is in `support`."""
