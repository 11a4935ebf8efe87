"""The paper's baselines that are trained on background: RD4AD, a detector, and AETNet, which enhances cubes."""
