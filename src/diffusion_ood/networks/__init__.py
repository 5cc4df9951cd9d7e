"""Networks: what maps a noisy image and a time to a prediction; none knows a noise schedule."""
