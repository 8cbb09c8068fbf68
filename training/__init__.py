"""What trains models: nothing of it is in an image. Each ends in `service.describe`, which writes their contract."""
