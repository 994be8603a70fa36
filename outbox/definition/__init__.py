"""What a saga type is: pure values, no database."""
