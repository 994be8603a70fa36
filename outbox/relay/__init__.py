"""What pgqueuer carries: that which recurs."""
