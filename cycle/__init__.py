"""The loop: changes, samples, phases, evaluation, gate, release; a journal that says what is done."""
