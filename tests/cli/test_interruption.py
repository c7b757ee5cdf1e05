"""Ctrl-C, kill -9 and a second process: the run continues, and ends with the same bytes."""

import atexit
import json
import random
import signal
import time
import unittest

from support import *

# Longer than the others': about two seconds of work in many files.
LONG = RECIPE.replace("steps = 20", "steps = 400").replace("checkpoints = 10", "checkpoints = 40").replace("steps = [10, 20]", "steps = 40")
LONG = LONG.replace("steps = [20]", "steps = [0, 120, 400]").replace("random_masks = 8", "random_masks = 60")


class Interruption(Case):
    @staticmethod
    @functools.cache
    def undisturbed():
        """-> (folder with recipe.toml and run/, seconds it took)"""
        folder = Path(tempfile.mkdtemp(prefix="seigh-cli-long-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        (folder / "recipe.toml").write_text(LONG)
        begin = time.monotonic()
        done = seigh("run", folder / "recipe.toml", "--data", Case.shared() / "data", "--out", folder / "run", "--threads", "1")
        assert done.returncode == 0, done.stderr
        return folder, time.monotonic() - begin

    def arguments(self, out):
        return ["run", self.undisturbed()[0] / "recipe.toml", "--data", self.data, "--out", out, "--resume", "--threads", "1"]

    def start(self, out):
        process = subprocess.Popen([SEIGH, *map(str, self.arguments(out))], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   text=True, env=environment())
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        return process

    def wait_for(self, process, path):
        end = time.monotonic() + 900
        while time.monotonic() < end:
            if path.exists():
                return
            self.assertIsNone(process.poll(), f"ended before it wrote {path}")
            time.sleep(0.002)
        self.fail(f"{path} never came")

    def whole(self, run):
        """Every file under its final name can be read, and is what the undisturbed run has."""
        content = snapshot(run)
        expected = snapshot(self.undisturbed()[0] / "run")
        for name, value in content.items():
            self.assertEqual(value, expected[name], name)
        return content, expected

    def finish(self, run):
        done = self.ok(*self.arguments(run))
        content, expected = self.whole(run)
        self.assertEqual(content.keys(), expected.keys())
        self.assertEqual([p for p in run.rglob("*.tmp-*")], [])
        for line in (run / "log.jsonl").read_text().splitlines():
            json.loads(line)
        return done

    def test_ctrl_c(self):
        for place in ("checkpoints/step_000040.safetensors", "eigen/step_000040_train_hessian_seigh.h5",
                      "overlap/step_000000_train_hessian_seigh.h5"):
            with self.subTest(place):
                run = self.tmp / Path(place).parent.name
                process = self.start(run)
                self.wait_for(process, run / place)
                process.send_signal(signal.SIGINT)
                _, error = process.communicate(timeout=900)
                self.assertEqual(process.returncode, 130, error)
                lines = [line for line in error.splitlines() if not re.match(r".*: \d+ \S+ in .* s$", line)]
                self.assertEqual(len(lines), 1, error)
                self.assertRegex(lines[0], "^seigh: interrupted.*--resume")
                self.whole(run)
                self.finish(run)

    def test_kill_anywhere(self):
        """At random moments, told by the files that have come since the start and a few milliseconds more."""
        run, rng = self.tmp / "run", random.Random(20)
        kills = 0
        for early in (0.05, 0.3):  # while the program starts
            process = self.start(run)
            time.sleep(early)
            process.kill()
            process.communicate()
        while True:
            def finished():
                # not partial/: the program removes it while we look
                return sum(".tmp-" not in p.name for part in ("checkpoints", "eigen", "overlap") for p in run.glob(part + "/*"))
            wanted, process = finished() + rng.randrange(1, 4), self.start(run)
            while process.poll() is None and finished() < wanted:
                time.sleep(0.001)
            time.sleep(rng.uniform(0, 0.01))
            ended = process.poll() is not None
            process.kill()
            process.communicate()
            if ended:
                break
            kills += 1
            if run.exists():
                self.whole(run)
        self.assertGreater(kills, 0)  # how many depends on the speed of the machine; none would test nothing
        self.finish(run)

    def test_leftovers_of_a_killed_process(self):
        run = Path(shutil.copytree(self.undisturbed()[0] / "run", self.tmp / "run"))
        (run / "overlap/step_000000_train_hessian_seigh.h5").unlink()
        (run / "overlap/step_000000_train_hessian_seigh.h5.tmp-12345").write_text("half")
        with open(run / "log.jsonl", "a") as log:
            log.write('{"time":"2026-01-01T00:0')
        self.finish(run)

    def test_any_file_comes_back(self):
        original = self.undisturbed()[0] / "run"
        rng = random.Random(3)
        run = Path(shutil.copytree(original, self.tmp / "run"))
        files = sorted(p for folder in ("checkpoints", "eigen", "overlap") for p in (run / folder).iterdir())
        for path in rng.sample(files, len(files) // 3):
            path.unlink()
        (run / "report.html").unlink()
        self.finish(run)

    def test_second_process(self):
        run = self.tmp / "run"
        process = self.start(run)
        self.wait_for(process, run / "checkpoints/step_000040.safetensors")
        process.send_signal(signal.SIGSTOP)
        try:
            for arguments in (self.arguments(run), ["train", run], ["report", run]):
                self.refused(*arguments, says=["another seigh", str(process.pid), "--out"])
        finally:
            process.send_signal(signal.SIGCONT)
        process.communicate(timeout=900)
        self.assertEqual(process.returncode, 0)
        self.finish(run)


if __name__ == "__main__":
    unittest.main()
