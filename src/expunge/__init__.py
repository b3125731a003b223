"""expunge: remove a concept from a text-to-image diffusion model, and measure that it is gone."""
