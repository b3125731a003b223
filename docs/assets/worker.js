// Browsers start no Worker from a page that was opened from a folder. There the search runs in a hidden frame instead.
window.Worker = class extends EventTarget {
  constructor(url) {
    super();
    const frame = Object.assign(document.createElement("iframe"), { hidden: true });
    document.body.append(frame);
    this.inner = frame.contentWindow;
    this.ready = new Promise((done) => { this.inner.loaded = done; });
    window.addEventListener("message", (event) => {
      if (event.source !== this.inner) return;
      const message = new MessageEvent("message", { data: event.data });
      this.dispatchEvent(message);
      this.onmessage?.(message);
    });
    const load = (name) => `new Promise((done, fail) => document.body.append(Object.assign(document.createElement("script"), { src: ${name}, onload: done, onerror: fail })))`;
    this.inner.document.open();
    this.inner.document.write(`<body><script>
      window.postMessage = parent.postMessage.bind(parent);
      window.importScripts = (...urls) => urls.reduce((before, url) => before.then(() => ${load("url")}), Promise.resolve());
      </${"script"}><script src="${url}" onload="loaded()"></${"script"}></body>`);
    this.inner.document.close();
  }
  postMessage(data) {
    this.ready.then(() => this.inner.dispatchEvent(new MessageEvent("message", { data })));
  }
  terminate() {}
};
