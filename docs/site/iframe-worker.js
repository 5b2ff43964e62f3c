// The theme's search runs in a worker, which browsers refuse to a page that was opened from a folder. There, and only
// there, a hidden frame takes its place: the same script, the same messages, and nothing of another host.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      document.body.append(this.frame);
      const inside = this.frame.contentWindow;
      const base = new URL(String(url), location.href);
      inside.postMessage = (data) => {
        const event = new MessageEvent("message", { data });
        this.dispatchEvent(event);
        this.onmessage?.(event);
      };
      inside.importScripts = (...names) =>
        names.reduce(
          (before, name) =>
            before.then(
              () =>
                new Promise((loaded, failed) => {
                  const script = inside.document.createElement("script");
                  script.src = new URL(name, base).href;
                  script.onload = loaded;
                  script.onerror = failed;
                  inside.document.body.append(script);
                }),
            ),
          Promise.resolve(),
        );
      this.ready = inside.importScripts(base.href);
      this.inside = inside;
    }

    postMessage(data) {
      this.ready.then(() => this.inside.dispatchEvent(new MessageEvent("message", { data: structuredClone(data) })));
    }

    terminate() {
      this.frame.remove();
    }
  };
  window.IFrameWorker = window.Worker; // by which the script knows where it runs
}
