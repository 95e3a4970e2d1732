"""The consistency laboratory: histories of what clients asked and were told, and the judgement of them."""
