"""Networks outside of training: exported bundles, and what runs them on images and videos without torch."""
