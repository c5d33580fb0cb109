"""What renders: patches, overlay, weights, worker processes. Knows nothing about Gradio, SQL or statistics."""
