"""What ``dioe verify`` finds out about a device: what is asked, part by part, and what came out.

============ ====================================================================================
subjects     the device that is meant and the backends that can use it, or why there are none
kit          correctness: the conformance kit, in a process of its own
transfers    copies to the device, from it and within it: are the bytes the same, how fast
graphs       captured graphs against runs op by op
timings      small models on the device and on the CPU
report       one JSON object of all that, and the verdict
============ ====================================================================================
"""
