curl -X POST "https://image.octoai.run/generate/sd" \
 -H "Content-Type: application/json" \
 -H "Authorization: Bearer $OCTOAI_TOKEN" \
 --data-raw '{
 "prompt": "A still frame from a commercial of a DeLorean parked in bustling times square, rainy night shot with droplets of water falling",
 "negative_prompt": "Blurry, low-res, poor quality",
 "checkpoint": "octoai:crystal-clear",
 "loras": {
 "octoai:add-detail": 0.5
 },
 "width": 1344,
 "height": 768,
 "num_images": 4,
 "sampler": "DPM_PLUS_PLUS_2M_KARRAS",
 "steps": 30,
 "cfg_scale": 7.5
 }' | jq -r ".images[0].image_b64" | base64 -d > result.jpg
