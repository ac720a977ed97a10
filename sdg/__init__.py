"""The data engine: flows turn leaves into samples, filters drop what is poor, the store keeps what came out."""
