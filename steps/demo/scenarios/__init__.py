"""What the demo can show, one module a saga type."""
