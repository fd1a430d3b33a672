"""The edge: many clients on one side, a few subscriptions on the other."""
