/** Wakes all that wait for it. */
export class Bell {
  #sleepers = new Set();

  ring() {
    for (const wake of this.#sleepers) wake();
  }

  /** Until it rings, or so long. */
  wait(ms) {
    return new Promise((resolve) => {
      const wake = () => {
        clearTimeout(timer);
        this.#sleepers.delete(wake);
        resolve();
      };
      const timer = setTimeout(wake, ms);
      this.#sleepers.add(wake);
    });
  }
}
