"""Reads unchecked media files: finds and digests them, decodes their audio and video, and examines them."""
