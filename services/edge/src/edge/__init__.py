"""The edge: many clients on one side, a constant number of subscriptions on the other."""
