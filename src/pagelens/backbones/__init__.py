"""Model bodies, image preparation and checkpoint loading that encoders and rerankers share."""
