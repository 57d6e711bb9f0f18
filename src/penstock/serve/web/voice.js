// Records a spoken question with a level and a stop, and has it transcribed.

import { aborted, post } from "./api.js";
import { announce, button, byId, clock, fill, h } from "./dom.js";
import { notice, showProblem } from "./notices.js";
import { base64 } from "./images.js";

const LONGEST_MS = 60_000; // the server's limit, unless it is configured otherwise
const BARS = 28;

/** The recorder below the box. `heard(text)` receives the transcript. */
export class Voice {
  constructor(app, heard) {
    this.app = app;
    this.heard = heard;
    this.row = byId("recorder");
    this.button = byId("record");
    this.recorder = null;
    this.starting = false; // the browser asks for the microphone
  }

  async toggle() {
    if (this.recorder) this.recorder.stop();
    else if (!this.starting) {
      this.starting = true;
      try {
        await this.record();
      } finally {
        this.starting = false;
      }
    }
  }

  async record() {
    if (!navigator.mediaDevices?.getUserMedia || !("MediaRecorder" in globalThis)) {
      this.refuse("A browser records only on pages of https or of this machine. A recording can be dropped here instead.");
      return;
    }
    let stream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({ audio: { echoCancellation: false, channelCount: 1 } });
    } catch (error) {
      this.refuse(error.name === "NotFoundError" ? "There is no microphone here." : "The browser was not allowed to use the microphone. Allow it for this page, and record again.");
      return;
    }
    const chunks = [];
    let kept = true;
    const recorder = (this.recorder = new MediaRecorder(stream));
    recorder.addEventListener("dataavailable", (event) => chunks.push(event.data));
    recorder.addEventListener("stop", () => {
      this.recorder = null;
      this.endMeter();
      for (const track of stream.getTracks()) track.stop();
      this.button.ariaPressed = "false";
      if (kept) this.transcribe(new Blob(chunks, { type: recorder.mimeType }));
      else this.hide();
    });
    recorder.start(250);
    this.button.ariaPressed = "true";
    this.showRecording(stream, () => {
      kept = false;
      recorder.stop();
    });
    announce("Recording. Press the button again to stop.");
  }

  showRecording(stream, discard) {
    const bars = Array.from({ length: BARS }, () => h("i"));
    const time = h("span", { className: "times" }, "0:00");
    const stop = button("Stop", { icon: "stop", className: "button small primary", on: () => this.recorder?.stop() });
    fill(this.row, h("span", { className: "rec", ariaHidden: "true" }), h("span", { className: "level", ariaHidden: "true" }, bars), time, stop, button("Discard", { className: "button small", on: discard }));
    this.row.hidden = false;
    stop.focus();
    this.meter(stream, bars, time);
  }

  /** Draws the level of the last moments until the recording ends. */
  meter(stream, bars, time) {
    const context = (this.context = new AudioContext());
    const analyser = context.createAnalyser();
    analyser.fftSize = 1024;
    context.createMediaStreamSource(stream).connect(analyser);
    const samples = new Float32Array(analyser.fftSize);
    const levels = new Array(BARS).fill(0);
    const started = performance.now();
    let drawn = 0;
    const draw = (now) => {
      if (this.context !== context) return;
      if (now - drawn > 60) {
        drawn = now;
        analyser.getFloatTimeDomainData(samples);
        const level = Math.sqrt(samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length);
        levels.shift();
        levels.push(Math.min(1, level * 6));
        bars.forEach((bar, number) => {
          bar.style.transform = `scaleY(${Math.max(0.06, levels[number])})`;
        });
        time.textContent = clock(now - started);
        if (now - started > LONGEST_MS) this.recorder?.stop();
      }
      requestAnimationFrame(draw);
    };
    requestAnimationFrame(draw);
  }

  endMeter() {
    this.context?.close();
    this.context = null;
  }

  hide() {
    this.row.hidden = true;
    fill(this.row);
    byId("words").focus();
  }

  /** Has a recording transcribed, which the server does before it searches. */
  async transcribe(blob) {
    const waiting = h("span", {}, "Listening to it …");
    const controller = new AbortController();
    fill(this.row, h("span", { className: "spinner", ariaHidden: "true" }), waiting, button("Cancel", { className: "button small", on: () => controller.abort() }));
    this.row.hidden = false;
    this.row.querySelector("button").focus();
    announce("Listening to the recording");
    try {
      const body = { audio: await base64(blob), limit: 1 };
      const tenant = byId("tenant").value.trim();
      if (tenant) body.tenant = tenant;
      const page = await post("v1/search", body, { signal: controller.signal });
      this.hide();
      if (page.transcript) this.heard(page.transcript);
      else this.refuse("No words were heard. Record it again, closer to the microphone.");
    } catch (error) {
      this.hide();
      if (aborted(error)) return;
      if (error.passing) showProblem(error, () => this.transcribe(blob));
      else this.refuse(error.detail || error.message);
    }
  }

  refuse(message) {
    fill(byId("notices"), notice("bad", "This recording cannot be searched by", [message]));
    announce(message);
  }
}
