package org.siglip.conformance;

import com.google.gson.JsonObject;
import java.io.IOException;
import java.nio.file.Path;
import java.time.Duration;
import java.util.HashMap;
import java.util.Map;
import org.siglip.client.Settings;
import org.siglip.client.Siglip;

/** One connection for each endpoint and number of retries. */
final class Endpoints implements AutoCloseable {
  private final Plan plan;
  private final Map<Settings, Siglip> open = new HashMap<>();

  Endpoints(Plan plan) {
    this.plan = plan;
  }

  Siglip siglip(JsonObject one) throws IOException {
    Settings settings = settings(plan.endpoint(one.get("endpoint").getAsString()));
    if (one.has("retries")) {
      settings = settings.withRetries(one.get("retries").getAsInt());
    }
    if (!open.containsKey(settings)) {
      open.put(settings, Siglip.connect(settings));
    }
    return open.get(settings).within(Duration.ofMillis(one.get("timeout_ms").getAsLong()));
  }

  @Override
  public void close() {
    open.values().forEach(Siglip::close);
  }

  private static Settings settings(JsonObject endpoint) {
    Settings settings = new Settings(endpoint.get("address").getAsString());
    if (endpoint.has("tls") && endpoint.get("tls").getAsBoolean()) {
      settings = settings.withTls();
    }
    if (endpoint.has("ca_file")) {
      settings = settings.withCaFile(Path.of(endpoint.get("ca_file").getAsString()));
    }
    return endpoint.has("token") ? settings.withToken(endpoint.get("token").getAsString()) : settings;
  }
}
