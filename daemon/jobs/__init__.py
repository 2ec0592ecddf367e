"""Work to be done: its states, the queue that keeps them, and the scheduler that gets it done."""
