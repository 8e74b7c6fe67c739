"""How a FeatureView stands: watermark, freshness, conditions. Pure."""
