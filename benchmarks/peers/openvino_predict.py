"""Times OpenVINO on ready photos: for each line on stdin, a run, whose seconds it prints."""

import sys
import time

import numpy as np
import openvino as ov

compiled = ov.compile_model(sys.argv[1], "CPU", {"PERFORMANCE_HINT": "THROUGHPUT"})
photos = np.load(sys.argv[2])
streams = compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
parts = np.array_split(photos, streams)
queue = ov.AsyncInferQueue(compiled, streams)
for _ in sys.stdin:
    began = time.perf_counter()
    for part in parts:
        queue.start_async({0: part})
    queue.wait_all()
    print(time.perf_counter() - began, flush=True)
